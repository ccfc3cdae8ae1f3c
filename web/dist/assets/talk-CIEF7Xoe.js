import{A as c,b as h}from"./icons-C4OZ1Tkm.js";import{n as r,a as _,P as b,h as k,j as C,p as O,c as T}from"./page-BmFCszxH.js";import{e as P}from"./messages-CMAkC_i9.js";var E=Object.defineProperty,M=Object.getOwnPropertyDescriptor,$=t=>{throw TypeError(t)},n=(t,e,s,o)=>{for(var a=o>1?void 0:o?M(e,s):e,l=t.length-1,u;l>=0;l--)(u=t[l])&&(a=(o?u(e,s,a):u(a))||a);return o&&a&&E(e,s,a),a},y=(t,e,s)=>e.has(t)||$("Cannot "+s),f=(t,e,s)=>(y(t,e,"read from private field"),s?s.call(t):e.get(t)),m=(t,e,s)=>e.has(t)?$("Cannot add the same private member more than once"):e instanceof WeakSet?e.add(t):e.set(t,s),v=(t,e,s)=>(y(t,e,"access private method"),s),d,p,w,g;let i=class extends b{constructor(){super(...arguments),m(this,p),this.name="",this.about="",this.actions=c,this.stage=c,m(this,d,()=>{this.session.setAway(document.hidden),document.hidden||(document.title=`${this.name} – Tidings`)})}connectedCallback(){super.connectedCallback(),document.addEventListener("visibilitychange",f(this,d))}disconnectedCallback(){super.disconnectedCallback(),document.removeEventListener("visibilitychange",f(this,d))}firstUpdated(){document.title=`${this.name} – Tidings`,matchMedia("(pointer: coarse)").matches||this.composer.focus()}render(){const{session:t,chat:e,name:s}=this;this.look(t,e),document.hidden&&e.unread>0&&(document.title=`(${e.unread}) ${s} – Tidings`);const o=()=>s;return h`<header class="top">
        <span class="face" aria-hidden="true" data-hue=${Math.round(k(s)/60)%6}>${C(s)}</span>
        <div class="names">
          <h1>${s}</h1>
          <p class="state">${v(this,p,w).call(this)}</p>
        </div>
        <div class="actions">${this.actions}</div>
      </header>
      ${this.stage}
      <t-connection .session=${t}></t-connection>
      ${v(this,p,g).call(this)}
      <main class="talk">
        <h2 class="hidden">Chat with ${s}</h2>
        ${e.items().length===0?h`<p class="empty">Say hello to ${s}.</p>`:c}
        <t-messages
          .session=${t}
          .chat=${e}
          .nameOf=${o}
          .reply=${a=>this.composer.reply(a)}
          .edit=${a=>this.composer.edit(a)}
        ></t-messages>
        <t-composer .session=${t} .chat=${e} .nameOf=${o}></t-composer>
      </main>`}};d=new WeakMap;p=new WeakSet;w=function(){const{session:t,chat:e}=this;return e.typing.length>0?h`<span class="typing">typing<i></i><i></i><i></i></span>`:this.about?this.about:e.peer===void 0?"":O(t.presenceOf(e.peer))};g=function(){const{ending:t}=this.chat;if(this.tickWhile(t!==void 0),!t)return c;const e=t.at-Date.now(),s=t.why==="idle";return h`<div class="bar warn" role="alert">
      <span aria-live="off">
        ${s?"Nobody has written for a while: the chat ends in":"The time of this chat is over: it ends in"}
        <b>${T(e)}</b>
      </span>
      ${s?h`<button
            class="link"
            @click=${()=>{this.chat.ending=void 0,this.session.reconnect()}}
          >
            Keep it open
          </button>`:c}
    </div>`};n([r({attribute:!1})],i.prototype,"session",2);n([r({attribute:!1})],i.prototype,"chat",2);n([r()],i.prototype,"name",2);n([r()],i.prototype,"about",2);n([r({attribute:!1})],i.prototype,"actions",2);n([r({attribute:!1})],i.prototype,"stage",2);n([P("t-composer")],i.prototype,"composer",2);i=n([_("t-talk")],i);function D(t,e,s){if(e)return"You ended the chat.";switch(t){case"end":return`${s} ended the chat.`;case"next":return`${s} went on to somebody else.`;case"gone":return`${s} has gone.`;case"idle":return"Nobody had written for a while.";case"timeout":return"The time of this chat was over.";default:return"It was ended, or its time was over."}}export{D as w};
